"""Training as a process of its own: reads versions/<id>/, writes runs/<id>/, knows neither database nor dashboard."""
