"""Compare the units of layers with other bases of them."""
