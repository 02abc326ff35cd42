"""One file a weight format: a path to the tensors that the file holds, under the file's own names. Nothing is renamed here."""

__all__: list[str] = []
