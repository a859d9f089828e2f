// What needs no script is shown instead.
document.documentElement.classList.remove('js');
const note = document.querySelector('#failed');
note.hidden = false;
note.querySelector('span').textContent = String(error);
throw error;
