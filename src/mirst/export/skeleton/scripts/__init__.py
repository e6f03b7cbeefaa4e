"""Code of this bundle that MONAI does not have."""
