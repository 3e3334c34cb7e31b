"""Labels of several methods, by how well they simulate units."""
