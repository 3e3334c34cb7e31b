"""One dissection on several machines: shards, their merge, Ray."""
