"""The three types of transfer."""

__all__: list[str] = []
