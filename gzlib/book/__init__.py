"""The paper itself: executing stale chapters and turning them into pages."""
