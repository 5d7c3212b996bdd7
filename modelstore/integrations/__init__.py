"""Meeting points with other libraries, for those who have them installed."""
