"""Procedural street scenes, images and labels of 19 classes, for machines without data: synthetic, no photographs."""

from dfmobile.data.scenes.scene import VERSION, render_scene

__all__ = ["VERSION", "render_scene"]
