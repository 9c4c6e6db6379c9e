"""Files that are ours: whole or not at all, checked when read; and the names that weights have in other people's."""
