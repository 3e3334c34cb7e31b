"""What the explorer answers at which address; the pages are in `netdissect.explorer.html_pages`."""
