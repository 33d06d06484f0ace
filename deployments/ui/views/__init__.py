"""The views: each a function from the shelf and what was asked to a page. Pure apart from reading tables."""
