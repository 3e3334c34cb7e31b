"""Network Dissection: say what the single units of a vision network have learned."""
