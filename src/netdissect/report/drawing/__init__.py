"""What pages draw themselves: example images of concepts, small charts of a unit."""
