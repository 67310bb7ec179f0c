"""What is wrong with settings, in words."""

from pydantic import ValidationError


def explain(error: ValidationError) -> str:
    """A validation error as lines of ``--flag: what was expected (got …)``."""
    lines = []
    for item in error.errors():
        if item["type"] == "value_error":
            lines.append(item["msg"].removeprefix("Value error, "))
        elif item["type"] == "extra_forbidden":
            lines.append(f"unknown setting {item['loc'][0]!r}; see `eqspike run --help` for those there are")
        else:
            flag = "--" + str(item["loc"][0]).replace("_", "-")
            lines.append(f"{flag}: {item['msg'][0].lower()}{item['msg'][1:]} (got {item['input']!r})")
    return "\n".join(lines)
