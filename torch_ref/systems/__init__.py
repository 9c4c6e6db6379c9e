"""The other systems, each on the core: a file, or a folder where it is large."""
