"""Streamlit components (v2): plain ES modules, registered inline."""
