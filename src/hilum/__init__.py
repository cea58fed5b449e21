"""hilum."""
