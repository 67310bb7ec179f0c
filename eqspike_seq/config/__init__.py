"""Settings, presets, and where each setting acts."""
