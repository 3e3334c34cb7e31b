"""A generator of synthetic scenes in which the causes of some concepts are known."""
