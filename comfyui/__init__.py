"""Atelier in ComfyUI: a tab in the sidebar. It adds no nodes; the scripts in `web` are built by `make setup` in the project's folder."""

WEB_DIRECTORY = "./web"
NODE_CLASS_MAPPINGS: dict[str, type] = {}

__all__ = ["NODE_CLASS_MAPPINGS", "WEB_DIRECTORY"]
