"""pellucid"""
