"""The JSON addresses of the explorer; the pages are in `netdissect.explorer.html_pages`."""
