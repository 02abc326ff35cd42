"""One file a weight format: a path to the tensors of the file, under its own names and with its own axes.

``renames`` then turns the names and axes of other programs into timm's.
"""

__all__: list[str] = []
