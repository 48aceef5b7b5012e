"""Tables and charts from records that are there already; nothing here measures."""
