"""Who may call: keys, what they allow, and who did what with them."""
