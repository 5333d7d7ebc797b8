"""What the tasks call on the controller: tables, exec, logs, validate, bench."""
