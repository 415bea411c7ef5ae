"""What `baton status` prints, and the page that it writes."""
