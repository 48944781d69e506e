"""Where the AP went: by category, size, IoU and crowding, and what is taken for what; tables, figures, the screen."""
