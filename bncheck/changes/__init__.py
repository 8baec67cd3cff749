"""Two checkpoints side by side: which layer is which, and how far each of them went."""
