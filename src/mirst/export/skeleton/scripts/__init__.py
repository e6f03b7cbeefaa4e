"""What this bundle needs beside MONAI."""
