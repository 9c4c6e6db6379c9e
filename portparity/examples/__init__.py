"""Ports that are not ours, under the harness: what docs/own_port.md walks through."""
