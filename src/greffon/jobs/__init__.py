"""One file a command: the whole of it as one function."""

__all__: list[str] = []
