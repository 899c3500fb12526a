"""Everything that textclf prints on a terminal goes through this package."""
