"""Learning by corruption: model.py, and its network, basic_net.py."""
