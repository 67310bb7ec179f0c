from eqspike_seq import memory


def test_system_without_glibc_is_left_alone(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    memory.keep_freed_memory()
    memory.release_freed_memory()


def test_glibc_takes_the_settings() -> None:
    memory.keep_freed_memory()
    memory.release_freed_memory()
    mallopt = memory._glibc("mallopt")
    assert mallopt is None or mallopt(memory.TRIM_THRESHOLD, memory.LARGE) == 1
