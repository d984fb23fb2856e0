"""What goes into a package: its files, manifest and model card."""
