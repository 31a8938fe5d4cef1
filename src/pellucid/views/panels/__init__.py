"""A picture of a result as neutral panels, and the three media that draw them: terminal, HTML, figure."""
