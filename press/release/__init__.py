"""What takes a built package to others: remote storage, a registry of versions, signatures."""
