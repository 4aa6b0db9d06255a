"""Skills that come with the service, a Markdown file each."""
