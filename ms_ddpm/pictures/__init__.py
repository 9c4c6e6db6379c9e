"""What people look at: grids, GIFs, figures."""
