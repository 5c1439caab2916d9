"""What battles and evaluations look like: web pages that stand alone, and charts as PNG."""
