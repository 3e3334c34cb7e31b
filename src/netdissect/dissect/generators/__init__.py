"""What a dissection of a generator checks: its samples, and where the cells of its layers are on its images."""
