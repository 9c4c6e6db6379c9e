"""Two frameworks side by side: the same data, weights, batches and noise, trained and sampled, on one page.

`run` leads; every framework computes in a process of its own (`workers`, `worker`), in turns of a few steps, so that
only one computes at a time and what the machine does meanwhile hits both alike. `on_mindspore` and `on_torch` are the
sides; `judge` says whether they agree; `page`, `charts`, `pictures` and `markdown` show it.
"""
