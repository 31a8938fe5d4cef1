"""Pictures of values: tables for terminals and notebooks, figures. Views draw; they compute nothing.

Importing this package registers how results print themselves; libraries are imported when something is drawn.
"""

from pellucid.views import architecture, records, records_html, tables

__all__ = ["architecture", "records", "records_html", "tables"]
