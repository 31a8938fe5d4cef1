"""The page with every view of a text: its parts, its data, and the file they make."""
