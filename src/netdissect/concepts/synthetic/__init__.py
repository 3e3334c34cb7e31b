"""A world with known answers: small scenes drawn by the package itself, labeled exactly."""
