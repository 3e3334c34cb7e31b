"""Parts of a network: its linear head, the part behind a layer, ablated units."""
