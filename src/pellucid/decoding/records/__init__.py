"""What a decode did: the values, how they are collected, their form on disk, and decoding them again."""
