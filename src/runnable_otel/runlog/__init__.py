"""runnable's run log: what it says, and the spans that it stands for."""
