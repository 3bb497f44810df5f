-- Lets a job wait for a worker again. Returns whether that is allowed, and the job as it is shown.
return {retry(id) and 1 or 0, shown({id})}
