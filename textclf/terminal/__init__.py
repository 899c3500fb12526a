"""Everything that a person sees on a terminal goes through here."""
