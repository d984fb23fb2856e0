"""What goes into a package, the machines that built it, and its model card."""
