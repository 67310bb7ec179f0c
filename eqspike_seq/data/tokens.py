"""From a text to its tokens: words, numbers, emoji, ! and ?. On ASCII text both tokenisers give the same."""

import re
import string
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Literal

TokeniserName = Literal["unicode", "ascii"]
ASCII = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[!?]")
ASCII_LETTERS = string.ascii_letters.encode()
LONGEST_TOKEN = 64  # characters; longer runs of letters are no words
SPACELESS = {  # blocks of the scripts that put no space between words
    "Thai": ((0x0E00, 0x0E7F),),
    "Lao": ((0x0E80, 0x0EFF),),
    "Myanmar": ((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),
    "Khmer": ((0x1780, 0x17FF),),
    "Tai": ((0x1950, 0x19DF), (0x1A20, 0x1AAF), (0xAA80, 0xAADF)),
    "Balinese": ((0x1B00, 0x1B7F),),
    "Javanese": ((0xA980, 0xA9DF),),
    "Han": ((0x3005, 0x3007), (0x3021, 0x3029), (0x3038, 0x303C), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)),
    "Han, planes 2 and 3": ((0x20000, 0x3FFFF),),
    "kana": ((0x3031, 0x3035), (0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F)),
    "Bopomofo": ((0x3100, 0x312F), (0x31A0, 0x31BF)),
}
EMOJI = (  # pictures; neither letters nor digits in frames, nor arrows
    "\u203c\u2049\u231a\u231b\u2328\u23cf\u23e9-\u23fa\u25b6\u25c0\u2600-\u2767\u2794-\u27bf\u2b1b\u2b1c\u2b50\u2b55"
    "\U0001f000-\U0001f0ff\U0001f170-\U0001f1e5\U0001f200-\U0001faff"
)
FLAG = "[\U0001f1e6-\U0001f1ff]{1,2}"  # two regional indicators
JOINER = "\u200d"  # of several emoji makes one
# What changes how characters look, not what they are: soft hyphens, joiners of letters, marks of direction, variation
# selectors, tags, skin tones. With it gone, what looks alike is one word.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180b-\u180f\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    f"\U0001f3fb-\U0001f3ff\U000e0000-\U000e0fff]|{JOINER}(?![{EMOJI}])"
)
ALIKE = (("\u2019", "'"), ("\uff07", "'"), ("\uff01", "!"), ("\uff1f", "?"), ("\u061f", "?"))  # ’ ＇ ！ ？ ؟


def tokenise(text: str, tokeniser: TokeniserName) -> list[str]:
    """The tokens of a text in their order, in lower case; those of more than ``LONGEST_TOKEN`` characters are left out.

    ascii: runs of a to z and of digits, with one apostrophe inside; ! and ?. unicode: the same of all letters, numbers
    and their combining marks; of scripts without spaces each letter with its marks; each emoji.
    """
    return split(normalised(text, tokeniser), tokeniser)


def normalised(text: str, tokeniser: TokeniserName) -> str:
    """The characters that tokens are made of: in lower case, HTML line breaks as spaces; unicode: in form NFC.

    Lower case, and not case folding, since that makes one word of two in German (Maße, Masse). The Turkish İ becomes i;
    I does too, as everywhere else.
    """
    if tokeniser == "ascii" or text.isascii():
        return text.lower().replace("<br />", " ")
    text = unicodedata.normalize("NFC", INVISIBLE.sub("", text)).lower().replace("<br />", " ")
    for one, other in (("i\u0307", "i"), *ALIKE):  # i and its dot: what lower() makes of İ
        text = text.replace(one, other)
    return unicodedata.normalize("NFC", text)


def split(text: str, tokeniser: TokeniserName) -> list[str]:
    """The tokens of a text that is ``normalised``."""
    pattern = ASCII if tokeniser == "ascii" or text.isascii() else _unicode()  # the same of ASCII, three times as fast
    tokens: list[str] = pattern.findall(text)
    if max(map(len, tokens), default=0) <= LONGEST_TOKEN:  # no copy of nearly every text
        return tokens
    return [token for token in tokens if len(token) <= LONGEST_TOKEN]


def letters(texts: Iterable[str]) -> int:
    """How many characters of ``texts`` are letters (of a Unicode category L)."""
    whole = "".join(texts)
    if whole.isascii():  # fifty times as fast
        return len(whole) - len(whole.encode().translate(None, ASCII_LETTERS))
    return sum(map(str.isalpha, whole))


@cache
def _unicode() -> re.Pattern[str]:
    """The pattern of a token; what is a letter, a number or a mark is in Python's Unicode database."""
    blocks = {code for ranges in SPACELESS.values() for first, last in ranges for code in range(first, last + 1)}
    kinds: dict[str, list[int]] = {"L": [], "N": [], "M": [], "alone": []}
    for code in range(0x40000):  # beyond are tags, variation selectors and private use
        category = unicodedata.category(chr(code))
        kind = "alone" if code in blocks and category in ("Lo", "Lm", "Nl") else category[0]
        if kind in kinds:
            kinds[kind].append(code)
    letter, number, mark, alone = map(_class, kinds.values())
    word = f"[{letter}{number}][{letter}{number}{mark}]*(?:'[{letter}][{letter}{mark}]*)?"
    emoji = f"[{EMOJI}](?:{JOINER}[{EMOJI}])*"
    return re.compile(f"{word}|[{alone}][{mark}]*|{emoji}|{FLAG}|[!?]")


def _class(codes: Iterable[int]) -> str:
    """Characters in rising order as the inside of a class of a regular expression."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
