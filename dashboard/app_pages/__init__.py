"""One short script a page, run by Streamlit; never imported."""
